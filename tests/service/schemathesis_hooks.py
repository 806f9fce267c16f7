"""What `schemathesis` must know to send pictures: `SCHEMATHESIS_HOOKS=tests.service.schemathesis_hooks`.

Random bytes are no picture, and would be refused at the door each time.
"""

from __future__ import annotations

import schemathesis
from hypothesis import strategies as st

from tests.service.pictures import encoded, gradient

PICTURES = [
    encoded(gradient(size, size), image_format) for size in (8, 40) for image_format in ("PNG", "JPEG")
]
pictures = st.sampled_from(PICTURES)

schemathesis.openapi.format("binary", pictures)
for media_type in ("image/png", "image/jpeg", "image/webp", "application/octet-stream"):
    schemathesis.openapi.media_type(media_type, pictures)
