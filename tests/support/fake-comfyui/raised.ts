// What a node of a fake ComfyUI raises: an exception with a Python type, or the end that an interrupt makes.
export class RaisedError extends Error {
  readonly type: string;
  constructor(type: string, message: string) {
    super(message);
    this.type = type;
  }
}

export class Interrupted extends Error {}
