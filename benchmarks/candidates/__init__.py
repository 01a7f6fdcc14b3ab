"""Wrong and right candidates over many networks: what the judge lets through, and what it turns away."""
