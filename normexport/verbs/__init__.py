"""One verb a file, under the word of its command: the stages in order, from what a user gives to a frozen result."""
