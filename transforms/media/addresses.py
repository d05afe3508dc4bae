"""Which addresses a download may connect to: by default public ones only.

URLs come from data, which anybody may have written. Without this check, a row could make a worker
ask a machine of its own network, or the metadata server of its cloud.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import ipaddress
import socket
from collections.abc import Iterable
from typing import Any

import httpcore2

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_TRIED = 4
"""The addresses of a host that are tried, in the resolver's order."""
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class AddressRefused(Exception):
    """A host that has private addresses only; the message is a clause."""


class UnknownHost(Exception):
    """A host whose name has no address; the message is a clause."""


def is_public(address: Address) -> bool:
    """Return whether an address can be reached from everywhere, and is no group of machines."""
    inner = _embedded(address)
    return is_public(inner) if inner is not None else address.is_global and not address.is_multicast


def _embedded(address: Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address that an IPv6 address leads to; None if it is not such an address."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in _NAT64:
        return ipaddress.IPv4Address(address.packed[-4:])
    return address.ipv4_mapped or address.sixtofour


def check_literal(host: str) -> None:
    """Refuse a host that is private by its name; for hosts that a proxy resolves.

    Raises:
        AddressRefused: it is `localhost`, or a private address in any spelling.
    """
    try:
        address: Address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        try:
            address = ipaddress.IPv4Address(socket.inet_aton(host))  # 127.1, 0x7f000001
        except OSError:
            if host.lower().rstrip(".").rpartition(".")[2] != "localhost":
                return
            address = ipaddress.IPv4Address("127.0.0.1")
    if not is_public(address):
        raise _refused(host, address)


class CheckedBackend(httpcore2.AsyncNetworkBackend):
    """Opens connections; resolves each host once, checks the address, and connects to that one.

    A name that is resolved again could lead elsewhere the second time ("DNS rebinding").

    Args:
        inner: opens the connections.
        threads: where names are resolved.
        allow_private: whether every address is allowed.
    """

    def __init__(
        self,
        inner: httpcore2.AsyncNetworkBackend,
        threads: concurrent.futures.Executor,
        *,
        allow_private: bool,
    ) -> None:
        self._inner = inner
        self._threads = threads
        self._allow_private = allow_private

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to an address of a host; `timeout` counts for each address that is tried.

        Raises:
            AddressRefused: all addresses are private.
            UnknownHost: there is no address.
            httpcore2.ConnectError, httpcore2.ConnectTimeout: no address answers.
        """
        addresses = await self._addresses(host, port)
        for address in addresses[:_TRIED]:
            try:
                return await self._inner.connect_tcp(
                    str(address), port, timeout, local_address, socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise failure

    async def connect_unix_socket(self, *args: Any, **options: Any) -> httpcore2.AsyncNetworkStream:
        """Raise: a URL names no socket."""
        raise AddressRefused("it is a socket of this machine")

    async def sleep(self, seconds: float) -> None:
        """See httpcore."""
        await self._inner.sleep(seconds)

    async def _addresses(self, host: str, port: int) -> list[Address]:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(
                self._threads, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            )
        except (OSError, UnicodeError) as error:
            if getattr(error, "errno", None) == socket.EAI_AGAIN:
                raise httpcore2.ConnectError(f"the name {host} is not resolved now") from None
            raise UnknownHost(f"the host {host} is unknown") from None
        addresses = [ipaddress.ip_address(str(one[4][0])) for one in found]
        public = [one for one in addresses if self._allow_private or is_public(one)]
        if not public:
            raise _refused(host, addresses[0])
        return list(dict.fromkeys(public))


def _refused(host: str, address: Address) -> AddressRefused:
    found = "" if host.strip("[]") == str(address) else f" is {address}, which"
    return AddressRefused(
        f"{host}{found} is not a public address. Use --allow-private-addresses if the data may "
        "lead there"
    )
