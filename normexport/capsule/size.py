"""How large a capsule may be."""

#: Of the arrays in a capsule, before they are compressed, unless the caller says another size.
MOST_BYTES = 64 << 20
