"""`python -m senet_ablate`."""

from senet_ablate.cli import main

if __name__ == "__main__":
    main()
