"""What `accelerator.py` measures on a device: each part is prepared and measured in a process of its own."""
