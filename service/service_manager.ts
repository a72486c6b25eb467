/** What a service manager says to a process that it runs (systemd's sd_watchdog_enabled(3)). */

/** How long the service manager waits for this process, milliseconds; null: it does not watch it. */
export function watchdogMs({ WATCHDOG_USEC, WATCHDOG_PID }: NodeJS.ProcessEnv, pid: number): number | null {
  const usec = Number(WATCHDOG_USEC);
  if (!(usec > 0) || (WATCHDOG_PID !== undefined && WATCHDOG_PID !== String(pid))) return null;
  return usec / 1000;
}
