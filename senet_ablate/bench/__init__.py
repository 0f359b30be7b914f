"""What `senet-ablate bench` measures:

each module trains, times or kills something and returns facts.
"""
