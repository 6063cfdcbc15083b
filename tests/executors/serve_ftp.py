"""An FTP server for one test, in a process of its own: `python serve_ftp.py FOLDER PASSWORD` prints its port, and ends with its standard input."""

import logging
import os
import sys
import threading

from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.servers import FTPServer


def main() -> None:
    folder, password = sys.argv[1:]
    logging.getLogger("pyftpdlib").setLevel(logging.CRITICAL)
    FTPHandler.authorizer = DummyAuthorizer()
    FTPHandler.authorizer.add_user("ann", password, folder, perm="elradfmwMT")
    FTPHandler.authorizer.add_user("reader", password, folder, perm="elr")
    server = FTPServer(("127.0.0.1", 0), FTPHandler)
    print(server.address[1], flush=True)  # noqa: T201
    threading.Thread(target=end, daemon=True).start()
    server.serve_forever()


def end() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
