"""Why a run must stop at an endpoint; each message names the place and the way out, and never holds a key."""


class EndpointStopped(RuntimeError):
    """Asking on makes no sense; answers had before it were already handed over."""


class MissingKey(EndpointStopped):
    """The environment variable that should hold the key is not set, or cannot be a key."""


class EndpointDown(EndpointStopped):
    """Nobody answers at base_url."""


class EndpointRefused(EndpointStopped):
    """The server turns every such request away: key, address, redirect or model name."""


class WrongModel(EndpointStopped):
    """Another model answered than the one asked for."""


class OverBudget(EndpointStopped):
    """The next request could cost more than is left of max_cost or max_tokens_total."""
