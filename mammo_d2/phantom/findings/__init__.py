"""What lies in the phantom breast: lesions, calcifications, look-alikes."""
