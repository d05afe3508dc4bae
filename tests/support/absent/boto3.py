"""Found first by the processes that tests start: a user's environment lacks this package.

Beam imports it wherever it is there, and a process then takes a quarter more CPU to start.
"""

raise ModuleNotFoundError("No module named 'boto3'", name="boto3")
