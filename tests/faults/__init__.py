"""The fault matrix: a whole migration over real sockets, in each phase, under each fault, and what became of it.

    cells.py         what there is: every fault x phase, and what cannot exist, with the reason
    injection.py     the faults: how each strikes and heals        phases.py   how a route gets into each phase
    load.py          an application that writes and remembers      scene.py    engines, relays and the proxy of a cell
    told.py          what a client was told, by kind (pure)        expectations.py  which kinds are right (pure)
    checker.py       what is lost, back from the dead, different (pure)
    runner.py        one cell, from start to findings              report.py   the matrix, printed and as JSON

`make faults` prints the matrix (`__main__.py`); a dozen of its cells run with the other tests (test_cells.py).
"""
