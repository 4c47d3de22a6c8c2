"""All models, in the order in which docs/models.md tells of them."""

from __future__ import annotations

from typing import Any

from tests.models.batches import Batches
from tests.models.definitions import Definitions
from tests.models.explore import Model
from tests.models.flip import Flip
from tests.models.generated import Generated
from tests.models.mirror import Mirror
from tests.models.phases import Phases
from tests.models.policies import Policies
from tests.models.reads import Reads
from tests.models.restless import Restless
from tests.models.rollback import Rollback
from tests.models.scopes import Scopes
from tests.models.sweeps import Sweeps
from tests.models.verify import Verify

MODELS: tuple[type[Model[Any]], ...] = (
    Mirror,
    Batches,
    Reads,
    Restless,
    Scopes,
    Generated,
    Definitions,
    Sweeps,
    Phases,
    Verify,
    Policies,
    Flip,
    Rollback,
)
