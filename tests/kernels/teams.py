"""How kernels that share rows are launched; the numbers follow csrc/kernels/team.cuh and csrc/aten/rows.h."""

from products import ceil_div

ROW_VALUES, MOST_TEAM, TEAM_BYTES, TEAM_THREADS = 16, 512, 128, 256
COLUMN_THREADS, LEAST_COLUMNS, COLUMN_BYTES = 256, 32, 2048


def team_of(n: int, element: int, values: int = ROW_VALUES) -> int:
    size, most = 1, MOST_TEAM // 2 if element == 8 else MOST_TEAM
    while size < most and size * values < n:
        size *= 2
    return size


def columns_of(n: int) -> int:
    columns = LEAST_COLUMNS
    while columns < COLUMN_THREADS and COLUMN_THREADS // columns * 4 > n:
        columns *= 2
    return columns


def rows_are_packs(x, n: int) -> bool:
    return n * x.element_size() % 16 == 0 and x.data_ptr() % 16 == 0


def row_blocks(rows: int, team: int) -> tuple[int, int]:
    """Blocks and threads of each."""
    threads = max(team, TEAM_THREADS)
    return ceil_div(rows * team, threads), threads
