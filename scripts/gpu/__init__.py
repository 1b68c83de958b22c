"""`make gpu`: what this project wants to know of a GPU."""
