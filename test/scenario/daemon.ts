/** An Afterimage daemon as a process of its own, as a user would run it. */
import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { agentControlService, receiverControlService } from '../../proto/control.js';
import { RpcClient } from '../../service/rpc.js';
import { ended } from './command.js';

/** The `afterimage` command of this build. */
export const CLI = fileURLToPath(new URL('../../cli/main.js', import.meta.url));

const ANSWER_MS_MAX = 5_000;

export interface DaemonOptions {
  name: 'agent' | 'receiver';
  config: string;
  control: string;
  log: string;
  env?: NodeJS.ProcessEnv;
  /** Below the bundled supervisor. */
  supervised?: boolean;
}

export class Daemon {
  private child: ChildProcess | null = null;
  /** By the scenario, on purpose. */
  private wasKilled = false;

  constructor(protected readonly options: DaemonOptions) {}

  get pid(): number {
    const pid = this.child?.pid;
    if (pid === undefined) throw new Error(`the ${this.options.name} does not run`);
    return pid;
  }

  /** Of the daemon itself, where `pid` is its supervisor; null: none runs just now. */
  supervisedPid(): number | null {
    const children = readFileSync(`/proc/${this.pid}/task/${this.pid}/children`, 'utf8').trim();
    return children === '' ? null : Number(children);
  }

  get control(): string {
    return this.options.control;
  }

  get running(): boolean {
    return this.child !== null && this.child.exitCode === null && this.child.signalCode === null;
  }

  /** Starts it and waits until its control socket answers. */
  async start(secondsMax = 30): Promise<void> {
    const { name, config, log, supervised } = this.options;
    const flags = supervised === true ? ['--supervise'] : [];
    const output = openSync(log, 'a');
    this.child = spawn(process.execPath, [CLI, name, 'run', '--config', config, ...flags], {
      stdio: ['ignore', output, output],
      detached: true, // a Ctrl-C in the terminal is for whoever started it, who then stops it in order
      env: this.options.env ?? process.env,
    });
    this.wasKilled = false;
    closeSync(output);
    await this.answers(secondsMax);
  }

  /** Waits until its control socket answers. */
  async answers(secondsMax = 30): Promise<void> {
    const { name } = this.options;
    const deadline = performance.now() + secondsMax * 1000;
    for (;;) {
      if (!this.running) throw new Error(`the ${name} ended while starting:\n${await this.tail()}`);
      if (await this.isAnswering()) return;
      if (performance.now() > deadline)
        throw new Error(`the ${name} did not answer in ${secondsMax} s:\n${await this.tail()}`);
      await sleep(50);
    }
  }

  private async isAnswering(): Promise<boolean> {
    const { name, control } = this.options;
    const { status } = name === 'agent' ? agentControlService : receiverControlService;
    let client: RpcClient | null = null;
    try {
      client = await RpcClient.openControl(control);
      await client.callUnary<object, object>(status as never, {}, { timeoutMs: ANSWER_MS_MAX });
      return true;
    } catch {
      return false;
    } finally {
      client?.close();
    }
  }

  /** First signal, as `systemctl stop` sends it; resolves with its exit status. */
  async stop(secondsMax = 30): Promise<number | string> {
    if (this.running) this.child?.kill('SIGTERM');
    return this.ends(secondsMax);
  }

  /** Waits for its end, which somebody has asked for; resolves with its exit status. */
  async ends(secondsMax = 30): Promise<number | string> {
    return this.child === null ? 0 : ended(this.child, secondsMax);
  }

  /** As stop(), when the scenario is over. Throws unless it has ended in order, or was killed by the scenario. */
  async end(): Promise<void> {
    const status = await this.stop();
    if (status === 0 || this.wasKilled) return;
    throw new Error(`the ${this.options.name} ended with ${status}\n${await this.tail()}`);
  }

  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    if (this.child === null || !this.running) return;
    this.child.kill(signal);
    if (signal !== 'SIGKILL') return;
    this.wasKilled = true;
    await ended(this.child, 30);
  }

  signal(signal: NodeJS.Signals): void {
    this.child?.kill(signal);
  }

  /** Waits until the last lines of its log say so. */
  async tells(what: RegExp, secondsMax = 30): Promise<void> {
    for (const deadline = Date.now() + secondsMax * 1000; Date.now() < deadline; await sleep(50))
      if (what.test(await this.tail())) return;
    throw new Error(`the ${this.options.name} does not say ${what.source}:\n${await this.tail()}`);
  }

  /** The last lines of its log. */
  async tail(): Promise<string> {
    const log = await this.told().catch(() => '');
    return `${path.basename(this.options.log)}:\n${log.slice(-4000)}`;
  }

  /** Its log, from the first start on. */
  told(): Promise<string> {
    return readFile(this.options.log, 'utf8');
  }
}
