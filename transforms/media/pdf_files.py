"""PDF files: their pages, counted and cut out with pypdf.

pypdf bounds what a page tree, a cross-reference table or a compressed stream may cost.
"""

from __future__ import annotations

import io
import logging

from pypdf import PdfReader, PdfWriter
from pypdf.generic import ArrayObject, NameObject

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.media import MediaFault
from bulkembed.transforms.media.decoder_errors import decoding

# It logs what it repairs; the user can do nothing about that.
logging.getLogger("pypdf").setLevel(logging.CRITICAL)


def open_pdf(data: bytes) -> PdfReader:
    """Open a PDF file whose pages can be counted.

    Raises:
        MediaFault: the file is damaged, has no pages, or opens only with a password.
    """
    with decoding("a PDF file"):
        reader = PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise MediaFault(
                DeadCode.CORRUPT_MEDIA, "the PDF file is encrypted and opens only with a password"
            )
        if not len(reader.pages):
            raise MediaFault(DeadCode.CORRUPT_MEDIA, "the PDF file has no pages")
    return reader


def pdf_piece(reader: PdfReader, first: int, end: int) -> bytes:
    """Return some pages as a PDF file of their own, from the page `first` (from 0) before `end`.

    Links are left out: they would take along the pages that they lead to.

    Raises:
        MediaFault: the pages cannot be read.
    """
    target = io.BytesIO()
    with decoding("a PDF file"):
        writer = PdfWriter()
        for page in reader.pages[first:end]:
            annotations = page.get("/Annots")
            if annotations is not None:
                page[NameObject("/Annots")] = ArrayObject(
                    each
                    for each in annotations.get_object()
                    if each.get_object().get("/Subtype") != "/Link"
                )
            writer.add_page(page)
        writer.write(target)
    return target.getvalue()
