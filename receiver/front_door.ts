/**
 * The receiver's one door to the network. Who somebody is, by the certificate that was shown, decides which gRPC server takes the
 * connection: hosts and operators find only their own calls there, strangers none but that by which they join.
 */
import type { TLSSocket } from 'node:tls';
import type { IdentityKind } from '../proto/access.js';
import { toAfterimageError } from '../proto/errors.js';
import type { Log } from '../service/log.js';
import type { RpcServer } from '../service/rpc.js';
import type { NetworkAddress } from '../service/settings.js';
import { TlsListener, type ShownIdentity } from '../service/tls_listener.js';
import type { Identities } from './identities.js';

/** At once, of one host or operator: an agent has one for each of its groups, and one more while it reconnects. */
const CONNECTIONS_OF_ONE_MAX = 160;
/** At once, of strangers; the one that came first makes room for another. */
const STRANGERS_MAX = 64;
/** To join takes one call. */
const STRANGER_MS_MAX = 30_000;
/**
 * Sweeps in which nothing came. Agents speak every second, and whoever has a call answers the keepalive. Whoever has neither is
 * gone, and Node may not know (service/owned_credentials.ts).
 */
const QUIET_SWEEPS_MAX = 6;
/** Of the receiver's own certificate, of which a third is used. */
const OWN_LIFETIME_MS = 90 * 86_400_000;
const DAY_MS = 86_400_000;

export interface FrontDoorParts {
  identities: Identities;
  /** Take the connections of those that are known, and of all others. */
  servers: Readonly<Record<IdentityKind | 'stranger', RpcServer>>;
  log: Log;
  /** Between looks at who has gone, or may not stay. */
  sweepMs: number;
}

interface Guest {
  kind: IdentityKind;
  connection: TLSSocket;
  /** When the connection ends, by the clock of certificates. */
  untilMs: number;
  /** At the last sweep. */
  bytesRead: number;
  quietSweeps: number;
}

export class FrontDoor {
  /** By the UUID that their certificates name. */
  private readonly guests = new Map<string, Set<Guest>>();
  private readonly strangers = new Set<Omit<Guest, 'kind'>>();
  private listener: TlsListener | null = null;
  private readonly timers: NodeJS.Timeout[] = [];

  constructor(private readonly parts: FrontDoorParts) {}

  /** Gives the address with its port. Errors: LISTEN_BUSY, LISTEN_FAILED, PERMISSION_DENIED. */
  async listen(address: NetworkAddress): Promise<NetworkAddress> {
    const listener = new TlsListener(await this.credentials(), (connection, shown) =>
      this.accept(connection, shown),
    );
    const bound = await listener.listen(address);
    this.listener = listener;
    this.timers.push(
      setInterval(() => this.sweep(), this.parts.sweepMs),
      setInterval(() => void this.renew(listener), Math.min(OWN_LIFETIME_MS / 3, DAY_MS)),
    );
    return bound;
  }

  /** Ends every connection of whoever has certificates of that UUID, at once. */
  cutOff(uuid: string): void {
    for (const { connection } of this.guests.get(uuid) ?? []) connection.destroy();
  }

  /** Of whoever has certificates of that UUID. */
  connectionCount(uuid: string): number {
    return this.guests.get(uuid)?.size ?? 0;
  }

  /** At present, strangers too. */
  connectionCounts(): Record<IdentityKind | 'stranger', number> {
    const counts = { host: 0, operator: 0, stranger: this.strangers.size };
    for (const guests of this.guests.values()) for (const { kind } of guests) counts[kind] += 1;
    return counts;
  }

  /** Lets nobody in any more. Resolves when those that are inside have left: their servers see to that. */
  async close(): Promise<void> {
    for (const timer of this.timers) clearInterval(timer);
    await this.listener?.close();
  }

  private accept(connection: TLSSocket, shown: ShownIdentity): void {
    // What a broken connection says is nothing that this would not see by its end.
    connection.on('error', () => undefined);
    if (shown.kind !== 'known') return this.takeStranger(connection);
    let kind;
    try {
      ({ kind } = this.parts.identities.known(shown.uuid));
    } catch (thrown) {
      // Not told twice a second: whoever tries again and again is told so by the calls.
      this.parts.log.debug(
        { code: toAfterimageError(thrown).code, uuid: shown.uuid },
        'a certificate was refused',
      );
      return this.takeStranger(connection);
    }
    const guests = this.guests.get(shown.uuid) ?? new Set();
    if (guests.size >= CONNECTIONS_OF_ONE_MAX) return void connection.destroy();
    this.guests.set(shown.uuid, guests);
    const guest = { kind, connection, untilMs: shown.expiresMs, bytesRead: 0, quietSweeps: 0 };
    guests.add(guest);
    connection.once('close', () => {
      guests.delete(guest);
      if (guests.size === 0 && this.guests.get(shown.uuid) === guests) this.guests.delete(shown.uuid);
    });
    this.parts.servers[kind].take(connection);
  }

  private takeStranger(connection: TLSSocket): void {
    const [first] = this.strangers;
    if (first !== undefined && this.strangers.size >= STRANGERS_MAX) {
      // At once: its close comes later, and until then each one that comes would find the same one.
      this.strangers.delete(first);
      first.connection.destroy();
    }
    const guest = { connection, untilMs: Date.now() + STRANGER_MS_MAX, bytesRead: 0, quietSweeps: 0 };
    this.strangers.add(guest);
    connection.once('close', () => this.strangers.delete(guest));
    this.parts.servers.stranger.take(connection);
  }

  private sweep(): void {
    const now = Date.now();
    for (const guests of [this.strangers, ...this.guests.values()])
      for (const guest of guests) {
        const { connection, untilMs } = guest;
        const { bytesRead } = connection;
        guest.quietSweeps = bytesRead === guest.bytesRead ? guest.quietSweeps + 1 : 0;
        guest.bytesRead = bytesRead;
        if (untilMs <= now || guest.quietSweeps >= QUIET_SWEEPS_MAX) connection.destroy();
      }
  }

  private async credentials() {
    const { authority } = this.parts.identities;
    return { ...(await authority.credentials(OWN_LIFETIME_MS)), authority: authority.certificate };
  }

  /** Never rejects. */
  private async renew(listener: TlsListener): Promise<void> {
    try {
      listener.renew(await this.credentials());
    } catch (thrown) {
      this.parts.log.error(
        { err: toAfterimageError(thrown) },
        "the receiver's own certificate could not be renewed",
      );
    }
  }
}
