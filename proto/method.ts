/** A gRPC method out of the names of its messages. */
import type { MethodDefinition } from '@grpc/grpc-js';
import { codec } from './codec.js';

/** `service` and the messages are of package afterimage.v1, unless they name another. */
export function method<Request extends object, Response extends object>(
  service: string,
  name: string,
  request: string,
  response: string,
  responseStream = false,
): MethodDefinition<Request, Response> {
  const requestCodec = codec<Request>(request);
  const responseCodec = codec<Response>(response);
  return {
    path: `/${service.includes('.') ? service : `afterimage.v1.${service}`}/${name}`,
    requestStream: false,
    responseStream,
    requestSerialize: (value) => requestCodec.encode(value),
    requestDeserialize: (bytes) => requestCodec.decode(bytes),
    responseSerialize: (value) => responseCodec.encode(value),
    responseDeserialize: (bytes) => responseCodec.decode(bytes),
  };
}
