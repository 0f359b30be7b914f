"""`python -m senet_ablate`."""

from senet_ablate.cli.main import main

if __name__ == "__main__":
    main()
