/** CPU time of processes, all their threads together: proc(5), /proc/PID/stat, utime and stime in ticks of 10 ms. */
import { readFile } from 'node:fs/promises';

const TICKS_PER_SECOND = 100;
/** Of those after the program's name, which may hold blanks and parentheses. */
const UTIME = 11;
const STIME = 12;

/** Seconds since each began, together. */
export async function cpuSeconds(pids: readonly number[]): Promise<number> {
  const seconds = await Promise.all(
    pids.map(async (pid) => {
      const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      return (Number(fields[UTIME]) + Number(fields[STIME])) / TICKS_PER_SECOND;
    }),
  );
  return seconds.reduce((sum, one) => sum + one, 0);
}
