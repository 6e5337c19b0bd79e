"""Who calls, and from where: read from the request once."""

from starlette.requests import Request

from mlops.identity import InvalidTokenError, Principal, Role, read_token
from stac_api.problems import Problem
from stac_api.settings import Settings

LOCAL_USER = Principal(Role.USER, "local")


def principal_of(request: Request) -> Principal:
    """The caller: who a token names, or the local user where there is none; 401 for a bad token."""
    header = request.headers.get("authorization")
    if header is None:
        return LOCAL_USER
    scheme, _, token = header.partition(" ")
    settings: Settings = request.app.state.settings_mlops
    try:
        if scheme.lower() != "bearer":
            raise InvalidTokenError("only Bearer tokens are understood")
        return read_token(settings.token_secret.get_secret_value(), token.strip())
    except InvalidTokenError as error:
        raise Problem(401, str(error), headers={"WWW-Authenticate": "Bearer"}) from error


def require_job_or_system(request: Request, collection: str, item: str) -> Principal:
    """The caller, who must be the job of this run or the system; 403 for anybody else."""
    principal = principal_of(request)
    if not principal.measures(collection, item):
        raise Problem(403, "Only the job of this run may write here.")
    return principal


def base_url_of(request: Request) -> str:
    """The root of the API as the caller sees it; ends with a slash."""
    return str(request.base_url).rstrip("/") + "/"
