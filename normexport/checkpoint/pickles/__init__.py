"""Files of `torch.save`, read by a machine of our own that calls nothing the file names."""
