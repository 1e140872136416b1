"""Response with a bill of materials."""

from fastapi.responses import JSONResponse

from service.plugins.sbom.bill import MEDIA_TYPE


class BillResponse(JSONResponse):
    """A bill of materials as JSON, under CycloneDX's media type."""

    media_type = MEDIA_TYPE
