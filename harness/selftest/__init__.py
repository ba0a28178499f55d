"""The real client against servers whose truth is known: is what it reports what happened?

``check`` compares a number with its truth; ``truth`` reads the simulated server's own log, without
any of the code that reads the client's; ``scenarios`` sends the traffic; ``suite`` runs them all.
"""
