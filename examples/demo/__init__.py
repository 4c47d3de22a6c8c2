"""`make demo`: a live migration on this machine, from nothing to a report.

__main__.py       the story, step by step: start reading here
application.py    the live application, a process of its own, with the official client
corpus.py         its texts; embed.py: their vectors
stage.py          everything that runs; processes.py, databases.py, configuration.py: its parts
watch.py          what can be seen from outside; screen.py, picture.py: how it is shown
latency.py        through the proxy beside direct
report.py         what was found, and whether it is what it should be
"""
