"""Where a file came from: versions, hashes and options, a bill of materials, a signature."""
