"""Several runs of a comparison at a time, each in a process of its own.

The parent hands out runs and publishes results; a worker trains one run after the other. They talk in lines of JSON.
"""
