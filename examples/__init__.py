"""Small networks trained with these norms on real digits, their checkpoints, and the scripts that made both."""
