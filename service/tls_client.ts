/** How somebody who has joined a receiver connects to it: TLS 1.3 with both certificates (RFC 8446), and to nobody else. */
import tls from 'node:tls';
import { credentials, type ChannelCredentials, type ChannelOptions } from '@grpc/grpc-js';
import type { Identity } from './identity.js';

/**
 * What every receiver's certificate is made out to. Which receiver it is follows from the authority that signed it, so that an
 * address may change.
 */
export const RECEIVER_NAME = 'receiver.afterimage.internal';

/** For a client that uses tlsCredentials. */
export const TLS_CHANNEL: ChannelOptions = {
  'grpc.ssl_target_name_override': RECEIVER_NAME,
  'grpc.default_authority': RECEIVER_NAME,
};

/** Without `own` whoever connects is a stranger, who can join. `authority`: PEM. */
export function tlsCredentials(
  authority: string,
  own: Pick<Identity, 'certificate' | 'key'> | null,
): ChannelCredentials {
  const context = tls.createSecureContext({
    ca: authority,
    minVersion: 'TLSv1.3',
    ...(own === null ? {} : { cert: own.certificate, key: own.key }),
  });
  return credentials.createFromSecureContext(context);
}
