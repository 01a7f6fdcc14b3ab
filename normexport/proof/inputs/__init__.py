"""What both sides are given: data of the user, random numbers at several scales, whole numbers over what is allowed."""
