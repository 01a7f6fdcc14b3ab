"""The operators, by subject; each file registers its own (`normexport.runtime.float64.registry`)."""
