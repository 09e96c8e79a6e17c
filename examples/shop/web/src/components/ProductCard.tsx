import React from "react";
import { addToCart } from "../store/cart";
import type { Product } from "../types";
import { PriceTag } from "./PriceTag";

interface Props {
  product: Product;
  onAdded?: (count: number) => void;
}

export class ProductCard extends React.Component<Props> {
  static propTypes = {
    product: React.PropTypes.shape({
      sku: React.PropTypes.string.isRequired,
      title: React.PropTypes.string.isRequired,
      cents: React.PropTypes.number.isRequired,
    }).isRequired,
    onAdded: React.PropTypes.func,
  };

  add = async () => {
    var { product, onAdded } = this.props;
    var count = await addToCart(product.sku, 1);
    if (onAdded) {
      onAdded(count);
    }
  };

  render() {
    var { product } = this.props;
    return (
      <article className="card">
        <h3>{product.title}</h3>
        <PriceTag cents={product.cents} />
        <button type="button" onClick={this.add}>
          Add to cart
        </button>
      </article>
    );
  }
}
