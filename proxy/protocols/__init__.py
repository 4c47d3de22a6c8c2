"""Protocols as values: bytes in, events out; calls in, bytes out; no I/O, no clock.

A module here knows how a protocol looks on the wire and nothing else. It is fed what a socket gave and answers with
events; it is asked for a head or a frame and answers with bytes. Who reads, who writes, who waits and for how long is
decided by listeners and stores, which is why every rule of a protocol can be tested as a dialogue, one byte at a time.

What a peer got wrong is a value too, the last event of its connection, and says what to answer.
"""
