import React from "react";

interface Props {
  words: string;
  onRemove?: () => void;
}

// A line comes in words: "3 x Green tea = 13.50 EUR (5.0 % off for 3)".
export class CartLine extends React.Component<Props> {
  static propTypes = {
    words: React.PropTypes.string.isRequired,
    onRemove: React.PropTypes.func,
  };

  render() {
    var [what, price] = this.props.words.split(" = ");
    var reduced = price.includes("off");
    return (
      <li className={reduced ? "line line-reduced" : "line"}>
        <span>{what}</span>
        <strong>{price}</strong>
        {this.props.onRemove && (
          <button type="button" onClick={this.props.onRemove}>
            Remove
          </button>
        )}
      </li>
    );
  }
}
