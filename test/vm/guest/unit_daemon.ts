/** An Afterimage daemon as a service of systemd: its unit is in test/vm/systemd. */
import { mkdir, writeFile } from 'node:fs/promises';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { command } from '../../scenario/command.js';
import { CLI, Daemon, type DaemonOptions } from '../../scenario/daemon.js';

/** Under emulation, with much else to do. */
const SYSTEMCTL_SECONDS_MAX = 240;

export const unitOf = (name: DaemonOptions['name']): string => `afterimage-${name}.service`;

/** What it printed. */
export async function systemctl(...words: string[]): Promise<string> {
  const { stdout } = await command('systemctl', words, { secondsMax: SYSTEMCTL_SECONDS_MAX });
  return stdout.trim();
}

export class UnitDaemon extends Daemon {
  private wasStarted = false;

  private get unit(): string {
    return unitOf(this.options.name);
  }

  override get pid(): number {
    const pid = this.supervisedPid();
    if (pid === null) throw new Error(`${this.unit} does not run`);
    return pid;
  }

  /** Or is about to be started again. */
  override get running(): boolean {
    return this.wasStarted;
  }

  override supervisedPid(): number | null {
    try {
      const processes = readFileSync(`/sys/fs/cgroup/system.slice/${this.unit}/cgroup.procs`, 'utf8').trim();
      return processes === '' ? null : Number(processes.split('\n')[0]);
    } catch {
      return null;
    }
  }

  override async start(secondsMax = 30): Promise<void> {
    const { name, config, log } = this.options;
    const directory = `/run/systemd/system/${this.unit}.d`;
    await mkdir(directory, { recursive: true });
    // What of the unit is another one here than where it is installed.
    const lines = [
      '[Service]',
      'ExecStart=',
      `ExecStart="${process.execPath}" "${CLI}" ${name} run --config "${config}"`,
      `StandardOutput=append:${log}`,
      'StandardError=inherit',
      '',
    ];
    await writeFile(path.join(directory, 'scenario.conf'), lines.join('\n'));
    await systemctl('daemon-reload');
    await systemctl('start', '--no-block', this.unit);
    this.wasStarted = true;
    await this.answers(secondsMax);
  }

  override async stop(): Promise<number | string> {
    if (!this.wasStarted) return 0;
    await systemctl('stop', this.unit);
    this.wasStarted = false;
    return Number(await systemctl('show', '--property=ExecMainStatus', '--value', this.unit));
  }

  override async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    await systemctl('kill', '--kill-who=main', `--signal=${signal}`, this.unit);
  }

  override signal(signal: NodeJS.Signals): void {
    process.kill(this.pid, signal);
  }
}

/** How many descriptors systemd keeps for the agent. */
export async function keptCount(): Promise<number> {
  return Number(await systemctl('show', '--property=NFileDescriptorStore', '--value', unitOf('agent')));
}
