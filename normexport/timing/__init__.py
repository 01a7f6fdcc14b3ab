"""How long models take: each in a process of its own, in turns with the others, and the ratios with their intervals."""
