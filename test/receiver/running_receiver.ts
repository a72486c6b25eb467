/** A receiver in this process, on a store of its own, with its control socket. */
import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import pino from 'pino';
import type { Test } from 'tap';
import { accessService, type IdentityKind } from '../../proto/access.js';
import {
  receiverControlService,
  type ReceiverStatus,
  type RecoverProgress,
  type RecoverRequest,
} from '../../proto/control.js';
import { runReceiver, type ReceiverOverrides } from '../../receiver/main.js';
import { Store } from '../../receiver/store.js';
import { RpcClient } from '../../service/rpc.js';
import { parseAddress, parseConfig, type NetworkAddress } from '../../service/config.js';
import type { Identity as Certified } from '../../service/identity.js';
import { joinReceiver } from '../../service/joining.js';
import { receiverConfigSchema } from '../../receiver/config.js';
import { setTimeout as sleep } from 'node:timers/promises';

const TIMEOUT_MS = 30_000;
const MIB = 1024 * 1024;

export class RunningReceiver {
  private drain = new AbortController();
  private running: Promise<void> | null = null;
  private client: RpcClient | null = null;
  /** By plain TCP, and by TLS. */
  address = '';
  tlsAddress = '';

  private constructor(
    readonly directory: string,
    readonly store: string,
  ) {}

  /** A new store in a directory that goes with the test, and a receiver on it. */
  static async start(test: Test): Promise<RunningReceiver> {
    const receiver = await RunningReceiver.prepare(test);
    await Store.init(receiver.store, randomUUID());
    await receiver.run();
    return receiver;
  }

  /** One that does not run yet, in a directory that goes with the test; `store` is to be made in it. */
  static async prepare(test: Test): Promise<RunningReceiver> {
    const directory = await mkdtemp(path.join(tmpdir(), 'afterimage-receiver-'));
    const receiver = new RunningReceiver(directory, path.join(directory, 'store'));
    test.teardown(async () => {
      await receiver.stop();
      await rm(directory, { recursive: true, force: true });
    });
    return receiver;
  }

  /** `more`: lines of its configuration. */
  async run(more = '', overrides: Omit<ReceiverOverrides, 'log'> = {}): Promise<void> {
    const config = parseConfig(
      `store = "${this.store}"\nlisten = "127.0.0.1:0"\nlisten_plain = "127.0.0.1:0"\nrun_dir = "${this.directory}/run"\nsegment_bytes = ${4 * MIB}\n${more}`,
      'receiver.toml',
      receiverConfigSchema,
    );
    this.drain = new AbortController();
    const signals = { drain: this.drain.signal, end: new AbortController().signal };
    const log = pino({ level: process.env['TEST_LOG'] ?? 'silent' }, pino.destination(2));
    this.running = runReceiver(config, signals, '0', { log, ...overrides });
    // Awaited by stop(); a failure to start is told by the socket that never comes.
    this.running.catch(() => undefined);
    const deadline = Date.now() + TIMEOUT_MS;
    for (;;) {
      try {
        this.client = await RpcClient.openControl(config.control);
        break;
      } catch (thrown) {
        if (Date.now() > deadline) throw thrown;
        await Promise.race([sleep(10), this.running]);
      }
    }
    ({ listenPlain: this.address, listen: this.tlsAddress } = await this.status());
  }

  async stop(): Promise<void> {
    this.client?.close();
    this.client = null;
    this.drain.abort();
    await this.running;
    this.running = null;
  }

  status(): Promise<ReceiverStatus> {
    return this.call('status', {});
  }

  call<Name extends Exclude<keyof typeof receiverControlService, 'recover' | 'scrub'>>(
    name: Name,
    request: Parameters<(typeof receiverControlService)[Name]['requestSerialize']>[0],
    signal = new AbortController().signal,
  ): Promise<ReturnType<(typeof receiverControlService)[Name]['responseDeserialize']>> {
    if (this.client === null) throw new Error('the receiver does not run');
    const method = receiverControlService[name];
    return this.client.callUnary(method as never, request as never, { timeoutMs: TIMEOUT_MS, signal });
  }

  /** As an administrator. */
  access<Name extends keyof typeof accessService>(
    name: Name,
    request: Parameters<(typeof accessService)[Name]['requestSerialize']>[0],
  ): Promise<ReturnType<(typeof accessService)[Name]['responseDeserialize']>> {
    if (this.client === null) throw new Error('the receiver does not run');
    return this.client.callUnary(accessService[name] as never, request as never, { timeoutMs: TIMEOUT_MS });
  }

  /** A token: for a host, null: which may begin groups, or an operator of that role. */
  async token(
    kind: IdentityKind,
    name: string,
    more: { groups?: string[]; role?: string; ttlMs?: number } = {},
  ): Promise<string> {
    const { groups, role = '', ttlMs = 3_600_000 } = more;
    const foundsGroups = kind === 'host' && groups === undefined;
    const ttlNs = BigInt(ttlMs) * 1_000_000n;
    return (await this.access('tokenCreate', { kind, name, role, groups: groups ?? [], foundsGroups, ttlNs }))
      .token;
  }

  /** Somebody who has joined. */
  async join(
    kind: IdentityKind,
    name: string,
    more: { groups?: string[]; role?: string } = {},
  ): Promise<Certified> {
    return joinReceiver(this.tls, await this.token(kind, name, more), { kind, name, software: 'test' });
  }

  get tls(): NetworkAddress {
    const address = parseAddress(this.tlsAddress, 1);
    if (address === null) throw new Error(`${this.tlsAddress} is no address`);
    return address;
  }

  /** Recovers; returns the messages. */
  recover(request: Partial<RecoverRequest>): Promise<RecoverProgress[]> {
    const whole = {
      group: 'db',
      volume: 'data',
      point: 'latest',
      target: '',
      overwrite: false,
      force: false,
    };
    return this.stream('recover', { ...whole, ...request });
  }

  /** The messages of a call that answers with several. */
  async stream<Name extends 'recover' | 'scrub'>(
    name: Name,
    request: Parameters<(typeof receiverControlService)[Name]['requestSerialize']>[0],
    signal?: AbortSignal,
  ): Promise<ReturnType<(typeof receiverControlService)[Name]['responseDeserialize']>[]> {
    if (this.client === null) throw new Error('the receiver does not run');
    const messages: unknown[] = [];
    const options = { timeoutMs: TIMEOUT_MS, ...(signal === undefined ? {} : { signal }) };
    const method = receiverControlService[name];
    for await (const message of this.client.callStream(method as never, request as never, options)) {
      messages.push(message);
    }
    return messages as never;
  }
}
