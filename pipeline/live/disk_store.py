"""Where are the accounts that nobody asks for? With ``OFFHOOK_STORE=disk`` in RocksDB, so that memory holds those in use alone.

Stands below ``core.store`` in place of its dictionary. What it holds is scratch: each worker makes its own directory anew and restores
it from the changelog, which stays the truth, so a damaged file can end a worker and decide nothing.
"""

import fcntl
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from rocksdict import BlockBasedOptions, Cache, DBCompressionType, Options, Rdict, WriteOptions

from pipeline.core.store import Encoded

_PREFIX = "offhook-store-"
_LOCK = "lock"
_BUFFER_BYTES = 4 << 20  # written to a file when it is full; two per partition at most
_CACHE_BYTES = 1 << 20  # of blocks read, per partition; the files themselves are in the page cache while there is memory
_BLOOM_BITS = 10  # per key: one in a hundred reads of an account that is not there looks into a file
_OPEN_FILES = 256
_SIZES = ("rocksdb.estimate-live-data-size", "rocksdb.cur-size-all-mem-tables")


class DiskFailed(Exception):
    """The store on disk cannot be written or read; the message says what to do."""

    def __init__(self, path: Path, error: Exception) -> None:
        super().__init__(
            f"the store on disk failed in {path}: {error}: free space on that file system, or mend the disk, or name another place with"
            " OFFHOOK_DATA_DIR, or keep the state in memory with OFFHOOK_STORE=memory; nothing is lost, a restarted worker makes the"
            " store anew from the changelog"
        )


class OnDisk:
    """The encoded values of one partition, in a database of its own that exists while they do. The interface is ``Encoded``."""

    def __init__(self, path: Path) -> None:
        """``path``: a directory that does not exist."""
        self._path = path
        self._database: Rdict | None = None

    def _open(self) -> Rdict:
        if self._database is None:
            try:
                self._database = Rdict(str(self._path), options=_options())
            except Exception as e:
                raise DiskFailed(self._path, e) from None
            quick = WriteOptions()
            quick.disable_wal = True  # type: ignore[assignment, method-assign]  # a property; after a crash all comes from the changelog
            self._database.set_write_options(quick)
        return self._database

    def get(self, key: str) -> bytes | None:
        """The value; None where there is none. Raises DiskFailed."""
        if self._database is None:
            return None
        try:
            found: bytes | None = self._database.get(key.encode())
        except Exception as e:
            raise DiskFailed(self._path, e) from None
        return found

    def put(self, key: str, raw: bytes) -> None:
        """Set a value. Raises DiskFailed."""
        database = self._database or self._open()
        try:
            database[key.encode()] = raw
        except Exception as e:
            raise DiskFailed(self._path, e) from None

    def remove(self, key: str) -> None:
        """Forget a value, if there is one. Raises DiskFailed."""
        if self._database is None:
            return
        try:
            self._database.delete(key.encode())
        except Exception as e:
            raise DiskFailed(self._path, e) from None

    def keys(self) -> Iterator[str]:
        """All keys held."""
        if self._database is not None:
            for key in self._database.keys():  # noqa: SIM118 (it is no dictionary: it iterates by keys() alone)
                assert isinstance(key, bytes)
                yield key.decode()

    def clear(self) -> None:
        """Close and delete the database."""
        if self._database is not None:
            self._database.close()
            self._database = None
            shutil.rmtree(self._path, ignore_errors=True)

    @property
    def size(self) -> int:
        """Bytes held, on disk and on their way there, as RocksDB estimates them."""
        return 0 if self._database is None else sum(self._database.property_int_value(name) or 0 for name in _SIZES)


def _options() -> Options:
    options = Options(raw_mode=True)  # bytes in and out: nothing is ever pickled
    options.create_if_missing(True)
    options.set_error_if_exists(True)
    options.set_write_buffer_size(_BUFFER_BYTES)
    options.set_max_write_buffer_number(2)
    options.set_compression_type(DBCompressionType.none())  # the values are packed already
    options.set_max_open_files(_OPEN_FILES)
    options.set_keep_log_file_num(1)
    options.set_stats_dump_period_sec(0)
    blocks = BlockBasedOptions()
    blocks.set_bloom_filter(_BLOOM_BITS, False)
    blocks.set_block_cache(Cache(_CACHE_BYTES))
    options.set_block_based_table_factory(blocks)
    return options


@contextmanager
def on_disk(parent: str) -> Iterator[Callable[[str, int], Encoded]]:
    """Yield what makes the stores of a stage's partitions, in a directory below ``parent`` (empty: the system's temporary one).

    It is deleted at the end, and so are those that killed workers have left. Raises DiskFailed where there is no such place.
    """
    base = Path(parent or tempfile.gettempdir())
    try:
        path, lock = _claim(base)
    except OSError as e:
        raise DiskFailed(base, e) from None
    made = 0

    def place(stage: str, partition: int) -> Encoded:
        nonlocal made
        made += 1
        return OnDisk(path / f"{stage}-{partition}-{made}")

    try:
        yield place
    finally:
        shutil.rmtree(path, ignore_errors=True)
        lock.close()


def _claim(base: Path) -> tuple[Path, TextIO]:
    """Make a directory of our own, marked as in use by a lock, and delete those that nobody holds any more."""
    base.mkdir(parents=True, exist_ok=True)
    with (base / f"{_PREFIX}{_LOCK}").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        for left in base.glob(f"{_PREFIX}*/{_LOCK}"):
            with suppress(OSError), left.open() as lock:  # held by its owner, or gone meanwhile
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left.parent, ignore_errors=True)
        path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
        held = (path / _LOCK).open("w")
        fcntl.flock(held, fcntl.LOCK_EX)
    return path, held
