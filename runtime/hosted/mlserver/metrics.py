"""What MLServer's /metrics says of Backlit. A module of its own: MLServer loads a model's anew."""

from __future__ import annotations

from prometheus_client import Histogram

# In Prometheus's own registry: MLServer shows that of mlserver.log for several processes alone.
BATCHES = Histogram(
    "backlit_batch_images", "Images of a run.", ["model"], buckets=(1, 2, 4, 8, 16, 32, 64)
)
