"""The image of `bulkembed search --image`: read, checked and prepared as those of the dataset."""

from __future__ import annotations

import io
from typing import Any

from bulkembed.pipeline.search.search import QueryImage
from bulkembed.schemas.embedding import EmbeddingConfig
from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.media import MediaFault, MediaKind
from bulkembed.transforms.media.media_refs import is_web_address
from bulkembed.transforms.media.prepare_media import check_installed, prepare_media
from bulkembed.transforms.media.stored_media import located, read_stored


def read_query_image(pinned: dict[str, Any], output: str, image: str) -> QueryImage:
    """Return an image as the run that made a dataset would have sent it.

    Args:
        pinned: the content of the dataset's `run.json`.
        output: the dataset, for messages.
        image: a path, or the URI of a file in a store.

    Raises:
        ConfigError: the dataset has texts only, or the file is not an image that can be sent.
    """
    embedding = EmbeddingConfig.from_facts(pinned["embedding"])
    if not embedding.spec.takes_media:
        raise ConfigError(
            f"--image: the vectors of {output} are from {embedding.spec.name}, which takes texts "
            "only. Give a text to search for."
        )
    if embedding.media is None:
        raise ConfigError(
            f"--image: {output} has texts only, and no settings for images. Use a dataset with "
            "media in --content, or give a text to search for."
        )
    if is_web_address(image):
        raise ConfigError(f"--image {image}: download the file, and give its path.")
    check_installed()
    file = io.BytesIO()
    try:
        read_stored(located(image, None), file, embedding.media.max_source_bytes)
        [sent] = prepare_media(file.getvalue(), MediaKind.IMAGE, embedding.media)
    except MediaFault as fault:
        # What follows the first sentence advises flags of `run`.
        what = fault.what.partition(". ")[0]
        raise ConfigError(f"--image {image}: {what}.") from None
    return QueryImage(image, sent.data)
