"""Where does a candidate leave its budget? The few nodes and the small input that show it, and files of them."""
