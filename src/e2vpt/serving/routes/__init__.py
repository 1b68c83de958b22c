"""What can be asked for over HTTP, and what is answered: the protocol, predictions, tasks, the page.

May import: everything in serving but app, listen, replicas and start.
Never: insight, benchmarks, cli.
"""
