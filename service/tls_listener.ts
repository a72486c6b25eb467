/**
 * A TLS 1.3 server (RFC 8446) that asks for a client certificate and hands on every connection with what was shown: a certificate
 * of the authority, another one, or none. What each is good for is up to whoever takes it. Strangers cost little: handshakes
 * have a time and a number, and the one that has taken longest makes room for a new one.
 */
import type net from 'node:net';
import tls from 'node:tls';
import { listenTcp } from './listen.js';
import type { NetworkAddress } from './settings.js';

/** HTTP/2 (RFC 9113), which all of gRPC is. */
const ALPN = ['h2'];
/** A handshake takes a few milliseconds and two round trips. */
const HANDSHAKE_MS_MAX = 10_000;
/** Under way at once. */
const HANDSHAKES_MAX = 256;

export interface TlsCredentials {
  /** PEM: one's own, and those above it. */
  certificate: string;
  /** PEM. */
  key: string;
  /** PEM: whose signature counts. */
  authority: string;
}

/** What a client has shown. */
export type ShownIdentity =
  | { kind: 'none' }
  /** Of the authority, and valid until then: whom it names. */
  | { kind: 'known'; uuid: string; expiresMs: number }
  /** `reason`: as OpenSSL has it, "CERT_HAS_EXPIRED" say. */
  | { kind: 'invalid'; reason: string };

export type AcceptConnection = (connection: tls.TLSSocket, shown: ShownIdentity) => void;

export class TlsListener {
  private readonly server: tls.Server;
  /** Connections whose handshake is not over, the oldest first, by the client's address and port. */
  private readonly shaking = new Map<string, net.Socket>();

  constructor(credentials: TlsCredentials, accept: AcceptConnection) {
    this.server = tls.createServer({
      ...secureContext(credentials),
      requestCert: true,
      // It is looked at when it is known, so that whoever is not let in can be told why.
      rejectUnauthorized: false,
      ALPNProtocols: ALPN,
      handshakeTimeout: HANDSHAKE_MS_MAX,
      noDelay: true,
    });
    this.server.on('connection', (connection: net.Socket) => this.begin(connection));
    this.server.on('secureConnection', (connection: tls.TLSSocket) => {
      this.shaking.delete(peerOf(connection));
      // One that has ended meanwhile would be counted for ever: its `close` was before anybody listened to it.
      if (connection.destroyed || connection.alpnProtocol !== 'h2') return void connection.destroy();
      accept(connection, shownBy(connection));
    });
    this.server.on('tlsClientError', (_error: Error, connection: tls.TLSSocket) => connection.destroy());
  }

  /** Gives the address with the port that was chosen for port 0. Errors: LISTEN_BUSY, LISTEN_FAILED, PERMISSION_DENIED. */
  listen(address: NetworkAddress): Promise<NetworkAddress> {
    return listenTcp(this.server, address);
  }

  /** For connections from now on: before those that are shown expire. */
  renew(credentials: TlsCredentials): void {
    this.server.setSecureContext(secureContext(credentials));
  }

  /** Takes no more. Resolves when all that were handed on have ended. */
  close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.server.close(() => resolve()));
    for (const connection of this.shaking.values()) connection.destroy();
    return closed;
  }

  private begin(connection: net.Socket): void {
    // Whoever is quick is in long before it is the oldest, however many others come and say nothing.
    const [oldest] = this.shaking;
    if (oldest !== undefined && this.shaking.size >= HANDSHAKES_MAX) {
      this.shaking.delete(oldest[0]);
      oldest[1].destroy();
    }
    const peer = peerOf(connection);
    this.shaking.set(peer, connection);
    connection.once('close', () => {
      if (this.shaking.get(peer) === connection) this.shaking.delete(peer);
    });
  }
}

function secureContext({ certificate, key, authority }: TlsCredentials): tls.SecureContextOptions {
  return { cert: certificate, key, ca: authority, minVersion: 'TLSv1.3' };
}

function peerOf({ remoteAddress, remotePort }: net.Socket): string {
  return `${remoteAddress} ${remotePort}`;
}

function shownBy(connection: tls.TLSSocket): ShownIdentity {
  const certificate = connection.getPeerX509Certificate();
  if (certificate === undefined) return { kind: 'none' };
  // (An Error by its type, a string in truth.)
  if (!connection.authorized) return { kind: 'invalid', reason: String(connection.authorizationError) };
  const expiresMs = Date.parse(certificate.validTo);
  // A session that is resumed (RFC 8446, 2.2) does not verify anew.
  if (!(Date.now() < expiresMs)) return { kind: 'invalid', reason: 'CERT_HAS_EXPIRED' };
  const uuid = uuidOf(certificate.subjectAltName);
  return uuid === null ? { kind: 'invalid', reason: 'it names nobody' } : { kind: 'known', uuid, expiresMs };
}

/** Whom a certificate names by its one alternative name (RFC 5280, 4.2.1.6), as Node prints that; or null. */
export function uuidOf(subjectAltName: string | undefined): string | null {
  return /^URI:urn:uuid:([0-9a-f-]{36})$/.exec(subjectAltName ?? '')?.[1] ?? null;
}
