"""Why a run must stop at its sampling server; each message names the place and the way out."""


class SamplerStopped(RuntimeError):
    """Drawing on makes no sense; what was committed before it is kept."""


class ServerAway(SamplerStopped):
    """Nobody answers at base_url."""


class ServerRefused(SamplerStopped):
    """The server turns a request away that every role needs: its key, its model's name, an adapter."""


class OtherSampler(SamplerStopped):
    """The server is not what the YAML says: its version, or how likely it finds what it draws."""
