from asyncio.locks import Lock as Lock

__all__ = ["Lock"]
