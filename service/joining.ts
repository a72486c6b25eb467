/**
 * How a host or an operator comes to be known to a receiver, and stays so. Who answers is believed when its authority is the one
 * that the token names: before that nothing is sent, the token least of all.
 */
import type { X509Certificate } from 'node:crypto';
import tls from 'node:tls';
import { enrollmentService, identityService, type IdentityKind } from '../proto/access.js';
import { AfterimageError } from '../proto/errors.js';
import { certificateRequest, newSigningKey } from './certificates.js';
import type { Identity } from './identity.js';
import { RpcClient } from './rpc.js';
import { formatAddress, type NetworkAddress } from './settings.js';
import { RECEIVER_NAME } from './tls_client.js';
import { parseToken } from './token.js';

const CONNECT_MS_MAX = 15_000;
const ANSWER_MS_MAX = 20_000;
const CHAIN_MAX = 4;

export interface JoinSubject {
  kind: IdentityKind;
  /** What the host is called: a token for another one is refused. "": whatever the token says. */
  name: string;
  /** "afterimage 1.2.3". */
  software: string;
}

/**
 * Makes a key and has it signed. The token is used up when this resolves, and perhaps when it rejects with DAEMON_*. Errors:
 * TOKEN_INVALID, TOKEN_REFUSED, TOKEN_LIMIT, AUTHORITY_MISMATCH, DAEMON_UNREACHABLE, DAEMON_TIMEOUT.
 */
export async function joinReceiver(
  address: NetworkAddress,
  token: string,
  { kind, name, software }: JoinSubject,
): Promise<Identity> {
  const { secret, fingerprint } = parseToken(token);
  const authority = await pinnedAuthority(address, fingerprint);
  const key = await newSigningKey();
  const request = await certificateRequest(key);
  const client = RpcClient.openTls(address, authority, null);
  try {
    const joined = await client.callUnary(
      enrollmentService.join,
      { secret, request, kind, name, software },
      { timeoutMs: ANSWER_MS_MAX },
    );
    return {
      ...{ kind, name: joined.name, role: joined.role, store: joined.store },
      receiver: formatAddress(address),
      ...{ authority, certificate: joined.certificate, key: key.pem },
    };
  } finally {
    client.close();
  }
}

/** The same identity with another key and certificate. Errors: IDENTITY_REFUSED, DAEMON_UNREACHABLE, DAEMON_TIMEOUT. */
export async function renewIdentity(address: NetworkAddress, identity: Identity): Promise<Identity> {
  const key = await newSigningKey();
  const request = await certificateRequest(key);
  const client = RpcClient.openTls(address, identity.authority, identity);
  try {
    const { certificate } = await client.callUnary(
      identityService.renew,
      { request },
      { timeoutMs: ANSWER_MS_MAX },
    );
    return { ...identity, certificate, key: key.pem };
  } finally {
    client.close();
  }
}

/** The certificate of the authority with that fingerprint, PEM, as who answers at `address` shows it. What else it shows is looked at by whoever uses it. */
function pinnedAuthority({ host, port }: NetworkAddress, fingerprint: Buffer): Promise<string> {
  return new Promise((resolve, reject) => {
    const where = formatAddress({ host, port });
    const connection = tls.connect({
      ...{
        host,
        port,
        servername: RECEIVER_NAME,
        minVersion: 'TLSv1.3',
        ALPNProtocols: ['h2'],
        timeout: CONNECT_MS_MAX,
      },
      // Nobody is believed yet.
      rejectUnauthorized: false,
    });
    const fail = (
      code: 'DAEMON_UNREACHABLE' | 'AUTHORITY_MISMATCH' | 'DAEMON_TIMEOUT',
      message: string,
      cause?: Error,
    ): void => {
      connection.destroy();
      reject(new AfterimageError(code, message, { cause }));
    };
    connection.once('error', (cause: Error) => {
      const isForeign = 'library' in cause; // OpenSSL's own
      fail(
        'DAEMON_UNREACHABLE',
        isForeign ? `${where} does not speak TLS 1.3: ${cause.message}` : `${where}: ${cause.message}`,
        cause,
      );
    });
    connection.once('timeout', () => fail('DAEMON_TIMEOUT', `${where} did not answer in time`));
    connection.once('secureConnect', () => {
      let shown: X509Certificate | undefined = connection.getPeerX509Certificate();
      for (let depth = 0; shown !== undefined && depth < CHAIN_MAX; depth += 1) {
        if (fingerprint.equals(Buffer.from(shown.fingerprint256.replaceAll(':', ''), 'hex'))) {
          connection.destroy();
          return resolve(shown.toString());
        }
        shown = shown.issuerCertificate;
      }
      fail('AUTHORITY_MISMATCH', `who answers at ${where} does not have the authority that the token names`);
    });
  });
}
