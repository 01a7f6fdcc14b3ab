"""Ways in which networks spell a norm with running statistics, each with what a fold must make of it."""
