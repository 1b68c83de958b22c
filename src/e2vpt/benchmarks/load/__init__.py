"""Load for a server: requests at a rate, whatever it answers, and what came back when."""
