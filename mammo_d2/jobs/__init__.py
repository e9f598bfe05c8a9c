"""What training a method means."""
