/** Where the receiver is, and how to get to it: as whom this host has joined, or, on this machine, as nobody. */
import { credentials, type ChannelCredentials, type ChannelOptions } from '@grpc/grpc-js';
import { AfterimageError, toAfterimageError } from '../proto/errors.js';
import {
  formatAddress,
  parseAddress,
  parseLoopback,
  type LoopbackAddress,
  type NetworkAddress,
} from '../service/settings.js';
import { readIdentity, validity, writeIdentity, type Identity } from '../service/identity.js';
import type { Log } from '../service/log.js';
import { TLS_CHANNEL, tlsCredentials } from '../service/tls_client.js';
import type { Clock } from './clock.js';

/** How often it is looked whether the certificate is to be renewed, at the least; more often if it lasts for hours only. */
const LOOK_MS_MAX = 3_600_000;
const LOOK_MS_MIN = 1_000;
/** After it could not be. */
const LOOK_AGAIN_MS = 60_000;
/** A disk that takes longer to give the identity does not answer. */
const READ_MS_MAX = 5_000;
/** Of what is left of a certificate's time, when it is looked again. */
const LOOK_SHARE = 1 / 20;

/** What a gRPC channel needs. */
export interface Endpoint {
  /** "HOST:PORT" */
  target: string;
  credentials: ChannelCredentials;
  options: ChannelOptions;
}

/** The way to the receiver, as it is now. */
export interface ReceiverEndpoint {
  /** For people. */
  readonly name: string;
  /** Errors: IDENTITY_MISSING, IDENTITY_INVALID, IDENTITY_REFUSED (it has expired), PERMISSION_DENIED, IO_ERROR. */
  find(): Promise<Endpoint>;
  /** When what shows who this host is ends, milliseconds since 1970; null: nothing does, or it is not known yet. */
  readonly untilMs: number | null;
  /** What it takes to stay known there goes on until stop(). */
  start(): void;
  stop(): Promise<void>;
}

/** Plain TCP, without identity: on this machine alone. Errors: ADDRESS_NOT_LOOPBACK. */
export function plainEndpoint(address: LoopbackAddress): ReceiverEndpoint {
  const target = formatAddress(address);
  // The configuration has checked it; plain TCP to anywhere else must not happen by another way either.
  if (typeof parseLoopback(target, 1) !== 'object')
    throw new AfterimageError('ADDRESS_NOT_LOOPBACK', `${target} is not a loopback address`);
  const endpoint = { target, credentials: credentials.createInsecure(), options: {} };
  return {
    name: target,
    untilMs: null,
    find: () => Promise.resolve(endpoint),
    start: () => undefined,
    stop: () => Promise.resolve(),
  };
}

/** By TLS, as whom `agent join` has made this host. A join while it runs is seen by the next connection. */
export class JoinedEndpoint implements ReceiverEndpoint {
  /** As it was read last. */
  private identity: Identity | null = null;
  /** At most one: a disk that hangs keeps a thread of the pool with each. */
  private reading: Promise<Identity | null> | null = null;
  private readonly stopping = new AbortController();
  private renewing: Promise<void> = Promise.resolve();
  /** X.509, beside the start; not when it is needed, weeks later: an upgrade may have put other files there. */
  private readonly joining = import('../service/joining.js');

  constructor(
    private readonly file: string,
    /** Where the receiver is, when that is not where this host has joined it. */
    private readonly address: NetworkAddress | null,
    private readonly clock: Clock,
    private readonly log: Log,
  ) {}

  get name(): string {
    return this.target ?? 'not joined';
  }

  get untilMs(): number | null {
    return this.identity === null ? null : validity(this.identity).untilMs;
  }

  /** From time to time the certificate is renewed. */
  start(): void {
    this.renewing = this.renewForEver();
  }
  stop(): Promise<void> {
    this.stopping.abort();
    return this.renewing;
  }

  async find(): Promise<Endpoint> {
    const identity = await this.load();
    const { untilMs } = validity(identity);
    if (untilMs <= Date.now()) {
      const when = new Date(untilMs).toISOString();
      throw new AfterimageError(
        'IDENTITY_REFUSED',
        `the certificate of host ${identity.name} has expired at ${when}`,
      );
    }
    const target = this.target ?? identity.receiver;
    return { target, credentials: tlsCredentials(identity.authority, identity), options: TLS_CHANNEL };
  }

  /** What was read before, where the disk fails or does not answer: the receiver does not lie there. */
  private async load(): Promise<Identity> {
    try {
      const identity = await this.readInTime();
      if (identity === null)
        throw new AfterimageError('IDENTITY_MISSING', 'this host has joined no receiver');
      this.identity = identity;
      return identity;
    } catch (thrown) {
      if (this.identity !== null && toAfterimageError(thrown).code === 'IO_ERROR') return this.identity;
      throw thrown;
    }
  }

  private async readInTime(): Promise<Identity | null> {
    this.reading ??= readIdentity(this.file).finally(() => (this.reading = null));
    const { reading } = this;
    reading.catch(() => undefined); // perhaps nobody waits for it any more
    const answered = new AbortController();
    const late = this.clock.sleep(READ_MS_MAX, answered.signal).then(
      () =>
        Promise.reject(
          new AfterimageError('IO_ERROR', `${this.file} cannot be read: its disk does not answer`),
        ),
      () => reading,
    );
    return Promise.race([reading, late]).finally(() => answered.abort());
  }

  private get target(): string | null {
    return this.address === null ? (this.identity?.receiver ?? null) : formatAddress(this.address);
  }

  /** Never rejects. */
  private async renewForEver(): Promise<void> {
    const { signal } = this.stopping;
    while (!signal.aborted) {
      const lookMs = await this.renewIfDue().catch((thrown: unknown) => {
        const { code, message } = toAfterimageError(thrown);
        // Before it has joined there is nothing to renew; whoever connects is told.
        if (code !== 'IDENTITY_MISSING')
          this.log.warn({ code }, `the certificate was not renewed: ${message}`);
        return LOOK_AGAIN_MS;
      });
      await this.clock.sleep(lookMs, signal).catch(() => undefined);
    }
  }

  /** Gives the time after which to look again. */
  private async renewIfDue(): Promise<number> {
    const identity = await this.load();
    const { renewMs, untilMs } = validity(identity);
    const leftMs = untilMs - Date.now();
    const lookMs = Math.max(LOOK_MS_MIN, Math.min(LOOK_MS_MAX, leftMs * LOOK_SHARE));
    if (Date.now() < renewMs || leftMs <= 0) return lookMs;
    const address = this.address ?? parseAddress(identity.receiver, 1);
    if (address === null) throw new AfterimageError('IDENTITY_INVALID', `${identity.receiver} is no address`);
    const { renewIdentity } = await this.joining;
    const renewed = await renewIdentity(address, identity);
    // Somebody may have joined anew meanwhile.
    const present = await this.load();
    if (present.key !== identity.key) return LOOK_MS_MIN;
    await writeIdentity(this.file, renewed);
    this.log.info({ until: new Date(validity(renewed).untilMs).toISOString() }, 'certificate renewed');
    return lookMs;
  }
}
