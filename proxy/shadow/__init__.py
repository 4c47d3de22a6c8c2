"""Shadow reads: what would the other side have answered?

    answered client ─► offer ─► (background) read the other side ─► compare ─► report
                        │                                            pure       pure
                        └► shed, when too many are under way

`ShadowReader` is what the request path sees: `offer` never waits, never raises, and costs the client nothing.
`compare` and `report` are pure. Which requests are offered is routing's decision (the route's sample). See
docs/shadow.md for what the figures mean.
"""

from proxy.shadow.reader import ShadowRead, ShadowReader

__all__ = ["ShadowRead", "ShadowReader"]
