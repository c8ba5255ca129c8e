import sys
from asyncio.streams import StreamReader as StreamReader
from asyncio.streams import StreamReaderProtocol as StreamReaderProtocol
from asyncio.streams import StreamWriter as StreamWriter
from asyncio.streams import open_connection as open_connection
from asyncio.streams import start_server as start_server

__all__ = ["StreamReader", "StreamReaderProtocol", "StreamWriter", "open_connection", "start_server"]

if sys.platform != "win32":
    from asyncio.streams import open_unix_connection as open_unix_connection
    from asyncio.streams import start_unix_server as start_unix_server

    __all__ += ["open_unix_connection", "start_unix_server"]
