import React from "react";

interface Props {
  cents: number;
  before?: number;
}

// A price; the old one is struck through when it was higher.
export class PriceTag extends React.Component<Props> {
  static propTypes = {
    cents: React.PropTypes.number.isRequired,
    before: React.PropTypes.number,
  };

  words(cents: number): string {
    return `${(cents / 100).toFixed(2)} EUR`;
  }

  render() {
    var { cents, before } = this.props;
    var cheaper = before !== undefined && before > cents;
    return (
      <span className={cheaper ? "price price-reduced" : "price"}>
        {cheaper && <del>{this.words(before as number)}</del>}
        {this.words(cents)}
      </span>
    );
  }
}
